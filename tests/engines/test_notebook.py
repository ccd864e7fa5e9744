"""What was measured outlives the process, and several processes may measure."""

import json
from concurrent.futures import ThreadPoolExecutor

from generation.engines.notebook import Notebook


def fail_to_write(notebook, file):
    raise OSError("No space left on device")


def test_what_was_never_noted_is_none(tmp_path):
    assert Notebook(tmp_path / "notes.json").get("knee") is None


def test_what_was_noted_is_known_after_a_restart(tmp_path):
    Notebook(tmp_path / "notes.json").put("knee", 8)

    assert Notebook(tmp_path / "notes.json").get("knee") == 8


def test_a_folder_that_is_not_there_is_made(tmp_path):
    Notebook(tmp_path / "some" / "folder" / "notes.json").put("knee", 8)

    assert Notebook(tmp_path / "some" / "folder" / "notes.json").get("knee") == 8


def test_without_a_file_values_are_remembered_all_the_same():
    notebook = Notebook()

    notebook.put("knee", 8)

    assert notebook.get("knee") == 8


def test_the_later_value_counts(tmp_path):
    notebook = Notebook(tmp_path / "notes.json")
    notebook.put("knee", 8)

    notebook.put("knee", 4)

    assert notebook.get("knee") == 4
    assert Notebook(tmp_path / "notes.json").get("knee") == 4


def test_the_notes_of_another_process_are_kept(tmp_path):
    one, other = Notebook(tmp_path / "notes.json"), Notebook(tmp_path / "notes.json")
    one.put("knee", 8)

    other.put("verdict", True)

    assert Notebook(tmp_path / "notes.json").all_under("") == {"knee": 8, "verdict": True}


def test_values_are_found_by_the_beginning_of_their_names(tmp_path):
    notebook = Notebook(tmp_path / "notes.json")
    for name in ("knee of a", "knee of b", "verdict"):
        notebook.put(name, 1)

    assert notebook.all_under("knee of ") == {"knee of a": 1, "knee of b": 1}


def test_a_damaged_file_is_as_good_as_none(tmp_path):
    (tmp_path / "notes.json").write_text('{"knee": ')

    notebook = Notebook(tmp_path / "notes.json")
    notebook.put("verdict", True)

    assert Notebook(tmp_path / "notes.json").all_under("") == {"verdict": True}


def test_a_file_that_holds_something_else_is_as_good_as_none(tmp_path):
    (tmp_path / "notes.json").write_text("[1, 2]")

    assert Notebook(tmp_path / "notes.json").all_under("") == {}


def test_what_cannot_be_written_is_remembered_by_this_process(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    notebook = Notebook(tmp_path / "file" / "notes.json")

    notebook.put("knee", 8)

    assert notebook.get("knee") == 8
    assert "knee is measured anew at the next start" in caplog.text


def test_what_could_not_be_written_counts_more_than_an_older_note_in_the_file(tmp_path, monkeypatch):
    notebook = Notebook(tmp_path / "notes.json")
    notebook.put("fits", 16)
    monkeypatch.setattr(Notebook, "_write", fail_to_write)

    notebook.put("fits", 8)
    notebook.put("knee", 8)

    assert notebook.get("fits") == 8


def test_nothing_but_the_file_is_left_in_the_folder(tmp_path):
    Notebook(tmp_path / "notes.json").put("knee", 8)

    assert [file.name for file in tmp_path.iterdir()] == ["notes.json"]


def test_threads_that_note_at_once_lose_nothing(tmp_path):
    notebook = Notebook(tmp_path / "notes.json")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: notebook.put(f"knee {i}", i), range(64)))

    assert json.loads((tmp_path / "notes.json").read_text()) == {f"knee {i}": i for i in range(64)}
