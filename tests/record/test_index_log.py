from apex_mcp.stores.record.index_log import flat_metadata, searchable


def test_a_document_is_found_by_its_title_once_and_a_passage_by_its_headings() -> None:
    first, second = (
        searchable("Nine months in cold water.", ordinal, "Sandpiper", ["Sandpiper", "Battery"])
        for ordinal in (0, 1)
    )
    assert first == "Sandpiper\nBattery\nNine months in cold water."
    assert second == "Battery\nNine months in cold water."
    assert searchable("Battery\n\nNine months.", 1, "Sandpiper", ["Battery"]) == "Battery\n\nNine months."


def test_lists_and_objects_can_be_filtered_by_what_is_in_them() -> None:
    metadata = {
        "tags": ["a", 2, {"x": 1}],
        "by": {"name": "Ann", "at": {"city": "Rome"}},
        "n": 1.5,
        "none": None,
    }
    assert flat_metadata(metadata) == {"tags": ["a", 2], "by.name": "Ann", "by.at.city": "Rome", "n": 1.5}
