"""What the demo's contract, report and slides say: the words only; `build_demo_corpus.py` sets them."""

CONTRACT_TITLE = "First Renewal of Monitoring Services Contract TW-2024-117"

CLAUSES: list[tuple[str, list[str]]] = [
    (
        "Background",
        [
            "By Contract TW-2024-117 of 24 June 2024 (the Contract) the Supplier watches the quality of "
            "the water in the Authority's basins. The Contract was made for two years, from 1 July 2024 to "
            "30 June 2026, with 22 probes at nine sites and an annual fee of 184,000 euros.",
            "The parties wish to go on, with more sites. What this Renewal does not change stays as the "
            "Contract has it.",
        ],
    ),
    (
        "Term",
        [
            "The Contract is renewed for three years, from 1 July 2026 to 30 June 2029. It ends on that "
            "day without notice, unless both parties renew it again in writing before 31 March 2029.",
        ],
    ),
    (
        "Fee and payment",
        [
            "From 1 July 2026 the Authority pays an annual fee of 212,500 euros for the services, instead "
            "of the 184,000 euros that it paid until 30 June 2026. All amounts are without value added "
            "tax.",
            "The annual fee is paid in four equal instalments of 53,125 euros, on the tenth day of July, "
            "October, January and April. An instalment that is more than 30 days late bears interest of 5 "
            "% a year.",
            "On 1 July 2027 and on 1 July 2028 the fee follows the index of consumer prices, by no more "
            "than 3 % at a time. A change in the list price of the Sandpiper does not change the fee.",
        ],
    ),
    (
        "Services",
        [
            "The Supplier installs and maintains 26 Sandpiper probes at the eleven sites in Schedule A. "
            "The four probes that are new are installed by 31 August 2026.",
            "Each probe sends a reading of oxygen, temperature, turbidity, pH and salinity every ten "
            "minutes. The Authority sees it in Tidebook within two minutes.",
            "By the fifth working day of each month the Supplier sends a report on the month before, and "
            "names in it every reading that it has corrected and why.",
        ],
    ),
    (
        "Availability",
        [
            "In each quarter at least 98.5 % of the readings that are due must reach the Authority. "
            "Readings lost through dredging, ice or work that the Authority has announced do not count.",
            "For each full half per cent below, the Authority keeps 2 % of that quarter's instalment, but "
            "never more than 10 %. After three such quarters in a row it may end the Contract within 30 "
            "days.",
        ],
    ),
    (
        "Trial of new probes",
        [
            "From 3 to 28 August 2026 the Supplier may hang six probes of the coming Sandpiper 2 beside "
            "the present ones at the Grain Dock and the Outer Mole. Their readings are a trial: they are "
            "shown to the Authority, but are no part of the services and cost it nothing.",
        ],
    ),
    (
        "Readings and confidentiality",
        [
            "The readings belong to the Authority. The Supplier may use them to make its probes better, "
            "and may publish them only with the Authority's consent in writing.",
            "The Supplier keeps all readings for ten years, and hands them over as CSV within ten working "
            "days when asked.",
        ],
    ),
    (
        "End of the Contract",
        [
            "Either party may end the Contract with 90 days' notice to the end of a quarter, the Supplier "
            "for the first time to 30 June 2027. At the end the Supplier takes its probes away within 45 "
            "days and leaves the piles as it found them.",
        ],
    ),
    (
        "Contacts and notices",
        [
            "For the Authority: Benedikt Orme, head of harbour environment, Custom House, Ostmere, "
            "b.orme@ostmere-harbour.example.",
            "For the Supplier: Priya Ostrander, head of sales. Until 14 June 2026 at 14 Quay Street, "
            "Ostmere; from 15 June 2026 at 3 Lantern Yard, Ostmere; contracts@tarnwell.example.",
        ],
    ),
]

SITES = [
    ("Site", "Probes until June 2026", "Probes from July 2026"),
    ("Grain Dock", "4", "5"),
    ("Fish Quay", "3", "3"),
    ("Old Basin", "3", "3"),
    ("Timber Pond", "2", "2"),
    ("Ferry Terminal", "3", "3"),
    ("Lock Chamber", "2", "2"),
    ("Dry Dock Outfall", "1", "1"),
    ("Yacht Haven", "2", "2"),
    ("Coal Staithe", "2", "2"),
    ("Outer Mole", "0", "2"),
    ("Swan Creek Mouth", "0", "1"),
    ("Total", "22", "26"),
]

REVENUE = [
    ("Thousand euros", "Q2 2026", "Q1 2026", "Q2 2025"),
    ("Sandpiper probes", "1,032", "826", "649"),
    ("Dunlin handheld meters", "238", "221", "255"),
    ("Tidebook subscriptions", "187", "174", "122"),
    ("Monitoring services", "147", "141", "118"),
    ("Total revenue", "1,604", "1,362", "1,144"),
]

RESULT = [
    ("Thousand euros", "Q2 2026", "Q1 2026", "Q2 2025"),
    ("Revenue", "1,604", "1,362", "1,144"),
    ("Materials and production", "-642", "-571", "-497"),
    ("Salaries", "-688", "-664", "-561"),
    ("Other costs", "-171", "-129", "-118"),
    ("Operating result", "103", "-2", "-32"),
]

# A heading's level and text, a paragraph, a list item ("- ...") or a table with its caption.
REPORT: list[tuple[int, str] | str | tuple[str, list[tuple[str, ...]]]] = [
    (1, "Summary"),
    "The second quarter was the first with an operating profit since the spring of 2024. Revenue rose to "
    "1.604 million euros, 40 % more than a year ago and 18 % more than in the first quarter. We delivered "
    "800 Sandpiper probes, and the new price of 1,290 euros held from its first day, 1 April 2026.",
    "Three things of this quarter will last longer than its figures:",
    "- Engineering has a new head. Rafael Quenby took over from Solveig Aldane on 4 May 2026.",
    "- The Ostmere Harbour Authority renewed contract TW-2024-117 for three years, with more probes and a "
    "higher fee.",
    "- We left Quay Street. Since 15 June 2026 all of us work at 3 Lantern Yard.",
    (1, "Revenue"),
    (2, "Revenue by product line"),
    ("Table 1: Revenue by product line, second quarter of 2026", REVENUE),
    "The Sandpiper made almost two thirds of the revenue. Of the growth over last year, 383 thousand euros "
    "come from it: 250 more probes, and 110 euros more for each. In the first quarter we still sold at "
    "the old price, 1,180 euros, and some customers ordered early; we expected a weak April for that "
    "reason, and did not get one.",
    "The Dunlin goes on losing against cheaper meters. We delivered 700, after 750 a year ago. We keep it, "
    "because every third Dunlin customer buys a probe within two years, but will not develop it further.",
    "Subscriptions grow with the probes in the water: 2,150 probes sent to Tidebook at the end of June, "
    "1,400 a year before. Four customers left, all of them with fewer than five probes.",
    (2, "Orders"),
    "Orders of 1.71 million euros came in, and 1.24 million are on the books for the second half of the "
    "year. The largest are 120 probes for Hollin Sound and 64 for the Skerrow river board. Neither is "
    "dependent on the Sandpiper 2.",
    (1, "Result and cash"),
    ("Table 2: From revenue to operating result", RESULT),
    "Materials took 40 % of the revenue, after 42 % in the first quarter: the price did more for this than "
    "savings. Other costs contain 38 thousand euros for the move, which will not come again.",
    "Cash stood at 1.412 million euros on 30 June, 147 thousand more than three months before. The loan of "
    "2023 is down to 420 thousand euros, and its last instalment falls due in March 2028.",
    (1, "Customers"),
    (2, "The harbour contract"),
    "The renewal of TW-2024-117 was signed on 28 May and runs from 1 July 2026 to 30 June 2029. The "
    "Authority goes from 22 probes at nine sites to 26 at eleven. The new fee will show in the third "
    "quarter's monitoring services for the first time; this report contains the old one.",
    "Availability was 99.1 % in the quarter, above the 98.5 % that we owe. The readings that we lost fell "
    "on two days in May, when a gateway at the Lock Chamber had no power.",
    (2, "Service"),
    "We calibrated 412 probes, in nine working days on average: one more than we promise. The laboratory "
    "was closed from 8 to 21 June. By the middle of July the backlog was gone.",
    (1, "People"),
    "On 30 June we were 43 people, two more than at the end of March. Solveig Aldane, who built up "
    "engineering from 2019, is our chief scientist since 4 May and works on the new oxygen sensor. Rafael "
    "Quenby, until then in charge of firmware, is head of engineering. His former post is open.",
    (1, "Development"),
    "The Sandpiper 2 passed its design review on 22 May. A wiper against growth on the membrane and a new "
    "battery are decided; the membrane itself is not. Six probes go into the harbour for a trial in "
    "August, as clause 6 of the harbour contract allows. First deliveries are planned for 16 November "
    "2026.",
    "Firmware 3.8 runs on 96 % of all probes. It cured the jump of the clock that had cost us 31 "
    "complaints in the winter.",
    (1, "Outlook"),
    "For the third quarter we expect revenue between 1.55 and 1.65 million euros and an operating result "
    "between 90 and 140 thousand. The three risks that could spoil it are the delivery of the new "
    "membrane, a hot summer that keeps harbour works from installing, and the two posts that we have not "
    "filled.",
    "The management board discusses this report on 21 July 2026.",
]

TARGETS = [
    ("", "Sandpiper", "Sandpiper 2"),
    ("Battery life in cold water", "9 months", "14 months"),
    ("Oxygen drift after 12 weeks", "4 %", "1 %"),
    ("Cleaning by hand", "every 6 weeks", "every 6 months"),
    ("Weight", "1.9 kg", "1.6 kg"),
    ("Price", "1,290 euros", "not decided"),
]

TIMELINE = [
    ("22 May", "Design review", "passed"),
    ("3 to 28 August", "Harbour trial", "six probes, two sites"),
    ("21 September", "Go or no go", "management board"),
    ("19 October", "Pilot series", "40 probes"),
    ("16 November 2026", "First deliveries", "existing customers first"),
]

COMPLAINTS = [
    (
        "4 %",
        "Readings drift",
        "Growth on the membrane makes oxygen read 4 % too low after eleven weeks. A wiper cures it.",
    ),
    (
        "9 months",
        "Batteries run down",
        "So long they last in cold water. A boat trip to change them costs more than they do.",
    ),
    (
        "6 weeks",
        "Cleaning by hand",
        "Customers like the readings and hate the brush. Half of all calls are about it.",
    ),
]

RISKS = [
    (
        "One supplier for the membrane",
        "If it is late, so are we. Samples from a second one would take eight weeks.",
    ),
    (
        "Firmware has no head",
        "Rafael still does it besides engineering. We look for somebody until September.",
    ),
    (
        "Old and new readings side by side",
        "Customers will compare them. Solveig writes down how to correct for drift.",
    ),
]
