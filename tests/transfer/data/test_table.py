"""Tables of paths and labels: what is guessed and told, and what is refused with its line."""

import json
from pathlib import Path

import numpy as np
import pytest

from hybridvit.transfer.data import Data, load_data, load_split
from hybridvit.transfer.errors import DataError
from tests.transfer.samples import draw


def table(root: Path, text: str, name: str = "labels.csv", images: int = 8) -> Path:
    """A table beside images/0.png, images/1.png ..."""
    for i in range(images):
        draw(root / "images" / f"{i}.png", seed=i)
    (root / name).write_text(text, encoding="utf-8")
    return root / name


def lines(labels: list[str], header: str = "path,label") -> str:
    return "\n".join([header, *(f"images/{i}.png,{label}" for i, label in enumerate(labels))]) + "\n"


def refusal(path: Path | str, **options: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        load_data(path, **options)  # pyright: ignore[reportArgumentType]
    return str(caught.value)


def labels_of(data: Data) -> dict[str, set[str]]:
    return {
        name: {data.classes[label] for label in part.labels_of(index)}
        for part in data.parts.values()
        for index, name in enumerate(part.names)
    }


def test_one_label_a_line(tmp_path: Path) -> None:
    data = load_data(table(tmp_path, lines(["cat", "dog"] * 4)))
    assert data.classes == ("cat", "dog")
    assert not data.multi_label
    assert data.train.labels.dtype == np.int64
    assert labels_of(data)["images/3.png"] == {"dog"}
    assert data.train.root == tmp_path
    assert "labels.csv: paths from column 'path', one label an image from column 'label'" in data.notes


@pytest.mark.parametrize(("delimiter", "name"), [("\t", "a.tsv"), (";", "a.csv"), (",", "a.CSV")])
def test_delimiters(tmp_path: Path, delimiter: str, name: str) -> None:
    text = lines(["cat", "dog"] * 4, "File,Class").replace(",", delimiter)
    assert load_data(table(tmp_path, "\ufeff" + text, name)).classes == ("cat", "dog")


def test_whole_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    assert load_data(table(tmp_path, lines(["2", "10"] * 4))).classes == ("2", "10")


@pytest.mark.parametrize("mark", [";", "|"])
def test_several_labels_separated(tmp_path: Path, mark: str) -> None:
    labels = [f"cat{mark}sofa", "cat", f"dog{mark} sofa", "dog", "", "cat", "dog", f"cat{mark}dog"]
    data = load_data(table(tmp_path, lines(labels, "image,tags")))
    assert data.multi_label
    assert data.classes == ("cat", "dog", "sofa")
    assert data.train.labels.dtype == np.float32
    assert data.train.labels.shape[1] == 3
    found = labels_of(data)
    assert found["images/2.png"] == {"dog", "sofa"}
    assert found["images/4.png"] == set()


def test_several_labels_in_json_lists(tmp_path: Path) -> None:
    rows = [{"image": f"images/{i}.png", "labels": ["a", "b"] if i % 2 else ["a"]} for i in range(8)]
    data = load_data(table(tmp_path, "\n".join(map(json.dumps, rows)), "labels.jsonl"))
    assert data.multi_label
    assert labels_of(data)["images/1.png"] == {"a", "b"}
    cells = ['"[""a"", ""b""]"' if i % 2 else '"[""a""]"' for i in range(8)]
    assert labels_of(load_data(table(tmp_path, lines(cells)))) == labels_of(data)


def test_one_column_a_class(tmp_path: Path) -> None:
    data = load_data(table(tmp_path, lines([f"{i % 2},{int(i < 6)}" for i in range(8)], "filename,cat,dog")))
    assert data.multi_label
    assert data.classes == ("cat", "dog")
    assert labels_of(data)["images/1.png"] == {"cat", "dog"}
    assert labels_of(data)["images/6.png"] == set()


def test_given_splits_are_used(tmp_path: Path) -> None:
    splits = ["train", "train", "train", "train", "valid", "validation", "test", "test"]
    text = lines([f"{'cat' if i % 2 else 'dog'},{split}" for i, split in enumerate(splits)], "path,label,split")
    path = table(tmp_path, text)
    data = load_data(path)
    assert data.test is not None
    assert [len(part) for part in data.parts.values()] == [4, 2, 2]
    assert data.val.names == ("images/4.png", "images/5.png")
    assert load_split(path)[1].names == ("images/6.png", "images/7.png")
    assert len(load_split(path, "train")[1]) == 4
    with pytest.raises(DataError, match="it has train, test"):
        load_split(table(tmp_path, text.replace("validation", "train").replace("valid", "train")), "val")


def test_paths_relative_to_another_folder(tmp_path: Path) -> None:
    path = table(tmp_path / "pictures", lines(["cat", "dog"] * 4))
    path = path.rename(tmp_path / "labels.csv")
    assert "images/0.png: cannot be read: No such file" in refusal(path)
    assert len(load_data(path, image_root=tmp_path / "pictures").train) == 6
    assert "no folder" in refusal(path, image_root=tmp_path / "nowhere")
    assert "image_root is for a table" in refusal(tmp_path, image_root=tmp_path)


def test_paths_outside_the_folder_are_told(tmp_path: Path) -> None:
    text = lines(["cat", "dog"] * 4).replace("images/0.png", "../else/0.png")
    path = table(tmp_path / "here", text.replace("images/1.png", str(tmp_path / "here" / "images" / "1.png")))
    draw(tmp_path / "else" / "0.png", seed=0)
    data = load_data(path)
    assert f"1 images lie outside {tmp_path / 'here'} (first: ../else/0.png)" in data.notes
    assert "images/1.png" in labels_of(data)  # no absolute path is kept


def test_missing_files_are_listed_or_skipped(tmp_path: Path) -> None:
    path = table(tmp_path, lines(["cat", "dog"] * 5))
    message = refusal(path)
    assert "2 of 10 files below" in message
    assert "images/9.png: cannot be read: No such file" in message
    assert len(labels_of(load_data(path, on_bad="skip"))) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("path,label\n", "has no rows"),
        ("name,label\na,b\n", "no column with the paths of the images; call just one of 'name', 'label' by one of"),
        ("path,image,label\na,b,c\n", "several columns with the paths of the images ('path', 'image')"),
        ("path,kind\na,b\n", "no label column; its columns are 'path', 'kind'"),
        ("path,label,class\na,b,c\n", "several label columns ('label', 'class')"),
        ("path,label,label\na,b,c\n", "several columns 'label'"),
        (
            "path,label\na.png,cat\nb.png,cat,dog\n",
            "line 3: 3 fields, but the first line names 2 columns (path,",
        ),
        ("path,label\na.png,cat\n\n,dog\n", "line 4: 'path' is empty"),
        ("path,label\na.png,cat\nb.png,\n", "line 3: the label is empty"),
        ("path,label\na.png,cat\nb.png,  \n", "line 3: the label is only spaces"),
        ("path,label\na.png,cat\nb.png,cat\n", "has one class, 'cat'"),
        ("path,label\na.png,cat\n./a.png,dog\n", "line 3 names a.png again (as line 2)"),
        ("path,label\na.png,a;b\nb.png,a|b\n", "are separated by ; and by |"),
        ("path,label\na.png,Cat\nb.png,cat\n", "classes 'Cat' and 'cat' of"),
        ("path,label,split\na.png,cat,all\n", "line 2: the split must be train, val or test, got 'all'"),
        ('path,label\n"a.png,cat\n', "not valid CSV"),
    ],
)
def test_refused_tables(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(table(tmp_path, text, images=0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "a.png", "label": 1}\n{"path": ', "line 2: not valid JSON"),
        ('["a.png"]', "line 1: must be a JSON object"),
        ('{"path": 3, "label": 1}', "line 1: 'path' must be a path, got 3"),
        ('{"path": "a.png", "label": 0.5}', "line 1: a label must be a text or a whole number, got 0.5"),
    ],
)
def test_refused_json_lines(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(table(tmp_path, text, "labels.jsonl", images=0))


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = table(tmp_path, "", images=0)
    path.write_bytes("path,label\na.png,cat\nb.png,Katze groß\n".encode("latin-1"))
    assert "line 3: not UTF-8 (byte 0xdf); save the table as UTF-8" in refusal(path)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    assert "labels.csv not found" in refusal(tmp_path / "labels.csv")
    assert "no source csv:; there are hf:, idx:, table:, wds:" in refusal(f"csv:{tmp_path}/x")
    assert load_data(f"table:{table(tmp_path, lines(['cat', 'dog'] * 4))}").classes == ("cat", "dog")


def test_a_class_without_training_images_is_named(tmp_path: Path) -> None:
    rows = ["cat,train"] * 3 + ["dog,train"] * 3 + ["bird,test", "cat,test"]
    assert "class 'bird' has no image to train on" in refusal(table(tmp_path, lines(rows, "path,label,split")))
    rows = ["cat,test"] * 4 + ["dog,val"] * 4
    assert "but none to train on" in refusal(table(tmp_path, lines(rows, "path,label,split")))
