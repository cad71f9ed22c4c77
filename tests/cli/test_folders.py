from pathlib import Path

from apex_mcp.cli.folders import find_files


def test_a_folder_gives_what_can_be_read_and_counts_the_rest(tmp_path: Path) -> None:
    for name in ("b.md", "a.PDF", "sub/c.txt", "sub/d.zip", "e", ".hidden.md", ".git/f.md", "~$g.docx"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x", encoding="utf-8")
    found = find_files([tmp_path])
    assert found.files == [tmp_path / "a.PDF", tmp_path / "b.md", tmp_path / "sub" / "c.txt"]
    assert (dict(found.unsupported), found.hidden) == ({".zip": 1, "": 1}, 3)
    assert (
        found.passed_over() == "passed over: 2 of unsupported types (1 without extension, 1 .zip), 3 hidden"
    )


def test_a_named_file_is_taken_whatever_it_is_and_only_once(tmp_path: Path) -> None:
    odd, missing = tmp_path / ".odd", tmp_path / "missing.md"
    odd.write_text("x", encoding="utf-8")
    assert find_files([odd, missing, odd]).files == [odd, missing]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a.md").write_text("x", encoding="utf-8")
    assert find_files([tmp_path]).files == [tmp_path / "a.md"]


def test_a_link_that_leads_to_itself_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "self.md").symlink_to(tmp_path / "self.md")
    (tmp_path / "a.md").write_text("x", encoding="utf-8")
    found = find_files([tmp_path])
    assert (found.files, found.elsewhere) == ([tmp_path / "a.md"], 1)
