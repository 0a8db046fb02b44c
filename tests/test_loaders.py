"""Dataset modules that read published files or what ships with scikit-learn."""

import importlib
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from neumix.data import digits, euler, fashion_mnist, letter, mnist, patches, sample_image, satimage, smallnorb
from neumix.data.dataset import DataError, Dataset
from neumix.data.idx import read_idx
from neumix.data.pixels import block_mean, to_grey
from neumix.settings import CatalogueError, parse

SHARED = ["mnist", "fashion_mnist", "letter", "satimage", "smallnorb", "euler"]
EMBEDDED = ["digits", "patches", "wine", "breast_cancer", "sample_image"]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"neumix.data.{name}")


def load(name: str, root: Path = Path("nowhere"), **settings: object) -> Dataset:
    dataset = module(name)
    loaded = dataset.load(root, dataset.Config(**settings), [0, 1])
    assert isinstance(loaded, Dataset)
    return loaded


def idx_bytes(values: NDArray[np.uint8]) -> bytes:
    """Write the format from its description: two zero bytes, type, number of dimensions, dimensions, values."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(length.to_bytes(4, "big") for length in values.shape)
    return header + values.tobytes()


def matrix_bytes(values: NDArray[np.generic]) -> bytes:
    """Write NORB's format from its description."""
    magic = {1: b"\x55\x4c\x3d\x1e", 4: b"\x54\x4c\x3d\x1e"}[values.itemsize]
    dimensions = [*values.shape, *[1] * (3 - values.ndim)]
    return magic + struct.pack(f"<{1 + len(dimensions)}i", values.ndim, *dimensions) + values.tobytes()


@pytest.mark.parametrize("name", SHARED + EMBEDDED)
def test_module_keeps_the_contract(name: str) -> None:
    dataset = module(name)
    config = dataset.Config()
    assert dataset.sources(config) == ()
    with pytest.raises(CatalogueError, match="unknown key 'nonsense'"):
        parse(dataset.Config, {"nonsense": 1}, "test")
    with pytest.raises(AttributeError):
        config.nonsense = 1


@pytest.mark.parametrize("name", SHARED)
def test_missing_file_names_dataset_file_and_remedy(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}/{name.replace('_', '-')}/.*: no such file\. .*yourself"):
        load(name, tmp_path)


@given(values=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6)))
def test_idx_round_trip(values: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(idx_bytes(values))
    read = read_idx("Toy", path, values.shape[1:])
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, values)


@given(
    change=st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 15), st.integers(1, 255)),
        st.tuples(st.just("cut"), st.integers(0, 15 + 3 * 28 * 28), st.just(0)),
        st.tuples(st.just("add"), st.integers(1, 9), st.just(0)),
    )
)
def test_any_damage_to_an_idx_header_or_length_is_found(
    change: tuple[str, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(idx_bytes(np.ones((3, 28, 28), np.uint8)))
    kind, position, bits = change
    if kind == "flip":
        content[position] ^= bits
    content = content[:position] if kind == "cut" else content
    content += bytes(position) if kind == "add" else b""
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"Toy: .*/file: expected .*, found .*\. Delete"):
        read_idx("Toy", path, (28, 28))


def write_mnist(folder: Path, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(256, size=(5, 28, 28), dtype=np.uint8)
    images[0, 0, :2] = 0, 255
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return images


@pytest.mark.parametrize(("name", "dataset"), [("mnist", mnist), ("fashion-mnist", fashion_mnist)])
def test_mnist_values(name: str, dataset: ModuleType, tmp_path: Path) -> None:
    labels = np.array([3, 1, 4, 0, 9], np.uint8)
    images = write_mnist(tmp_path / name, labels)
    loaded = dataset.load(tmp_path, dataset.Config(), [0])
    for split in ("train", "test"):
        x, y = loaded[split]["x"].values, loaded[split]["y"].values
        assert (x.dtype, y.dtype, x.shape) == (np.float32, np.int64, (5, 28, 28))
        assert (x.min(), x.max()) == (0, 1)
        np.testing.assert_array_equal(np.rint(x * 255), images)
        np.testing.assert_array_equal(y, labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([1, 2, 3], "5 labels, one per image, found 3"), ([1, 2, 3, 4, 10], "labels from 0 to 9, found 10")],
)
def test_labels_must_fit_the_images(labels: list[int], message: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", np.array(labels, np.uint8))
    with pytest.raises(DataError, match=message):
        load("mnist", tmp_path)


def write_letter(folder: Path, change: tuple[int, str] | None = None, rows: int = letter.ROWS) -> None:
    folder.mkdir(parents=True)
    lines = [f"{chr(65 + n % 26)}," + ",".join(str((n + i) % 16) for i in range(16)) for n in range(rows)]
    if change is not None:
        lines[change[0] - 1] = change[1]
    (folder / "letter-recognition.data").write_text("\n".join(lines) + "\n", encoding="ascii")


def test_letter_values(tmp_path: Path) -> None:
    write_letter(tmp_path / "letter")
    loaded = load("letter", tmp_path)
    assert (len(loaded["train"]), len(loaded["test"])) == (16_000, 4_000)
    x, y = loaded["test"]["x"].values, loaded["test"]["y"].values
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(x[0], (16_000 + np.arange(16)) % 16)
    np.testing.assert_array_equal(y[:3], (16_000 + np.arange(3)) % 26)
    assert len(load("letter", tmp_path, train_size=15_000)["test"]) == 5_000


GOOD = ",".join("123456789123456"[i % 15] for i in range(16))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("A," + GOOD[:-2], "expected 17 fields, found 16"),
        ("A," + GOOD + ",1", "expected 17 fields, found 18"),
        ("", "expected 17 fields, found 1"),
        ("a," + GOOD, "field 1: expected a capital letter, found 'a'"),
        ("AB," + GOOD, "field 1: expected a capital letter, found 'AB'"),
        ("A,16" + GOOD[1:], "number 1: expected a whole number from 0 to 15, found '16'"),
        ("A,-1" + GOOD[1:], "found '-1'"),
        ("A,1.5" + GOOD[1:], "found '1.5'"),
        ("A,nan" + GOOD[1:], "found 'nan'"),
        ("A,1_0" + GOOD[1:], "found '1_0'"),
        ("A," + "9" * 5000 + GOOD[1:], "found '999"),
    ],
)
def test_bad_letter_row_is_named(row: str, message: str, tmp_path: Path) -> None:
    write_letter(tmp_path / "letter", (777, row))
    with pytest.raises(DataError, match=r"Letter: .*letter-recognition\.data: line 777") as caught:
        load("letter", tmp_path)
    assert message in str(caught.value)
    assert "Delete" in str(caught.value)


def test_short_table_is_refused(tmp_path: Path) -> None:
    write_letter(tmp_path / "letter", rows=letter.ROWS - 1)
    with pytest.raises(DataError, match="expected 20000 lines, found 19999"):
        load("letter", tmp_path)


def write_satimage(folder: Path, code: str = "7") -> None:
    folder.mkdir(parents=True)
    for name, rows in (("sat.trn", 4435), ("sat.tst", 2000)):
        lines = [" ".join(str((n + i) % 256) for i in range(36)) + f" {code}" for n in range(rows)]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="ascii")


def test_satimage_values(tmp_path: Path) -> None:
    write_satimage(tmp_path / "satimage")
    loaded = load("satimage", tmp_path)
    assert (len(loaded["train"]), len(loaded["test"])) == (4435, 2000)
    x, y = loaded["train"]["x"].values, loaded["train"]["y"].values
    assert (x.dtype, y.dtype, x.shape) == (np.float32, np.int64, (4435, 36))
    np.testing.assert_array_equal(x[3], 3 + np.arange(36))
    assert set(y) == {5}, "code 7 is the sixth class"


@pytest.mark.parametrize("code", ["6", "0", "8", "x"])
def test_bad_satimage_class_is_named(code: str, tmp_path: Path) -> None:
    write_satimage(tmp_path / "satimage", code)
    with pytest.raises(DataError, match=r"Satimage: .*sat\.trn: line 1, last field: expected a class out of"):
        load("satimage", tmp_path)


def write_norb(folder: Path, pairs: int = 7) -> NDArray[np.uint8]:
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(256, size=(pairs, 2, 96, 96), dtype=np.uint8)
    labels = (np.arange(pairs) % 5).astype("<i4")
    for prefix in (smallnorb.TRAIN, smallnorb.TEST):
        (folder / f"{prefix}-dat.mat").write_bytes(matrix_bytes(images))
        (folder / f"{prefix}-cat.mat").write_bytes(matrix_bytes(labels))
    return images


def test_small_norb_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smallnorb, "PAIRS_AT_ONCE", 3)
    images = write_norb(tmp_path / "smallnorb")
    loaded = load("smallnorb", tmp_path)
    for split in ("train", "test"):
        x, y = loaded[split]["x"].values, loaded[split]["y"].values
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        np.testing.assert_allclose(x, images / 255, rtol=1e-6)
        np.testing.assert_array_equal(y, np.arange(7) % 5)
    shrunk = load("smallnorb", tmp_path, shrink=3)["train"]["x"].values
    assert shrunk.shape == (7, 2, 32, 32)
    np.testing.assert_allclose(shrunk[2, 1, 5, 6], images[2, 1, 15:18, 18:21].mean() / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, 0x51, "expected magic number 0x1e3d4c55"),
        (4, 3, "expected 4 dimensions"),
        (8, 8, "bytes, found"),
        (12, 1, "expected 4 dimensions"),
        (16, 95, "expected 4 dimensions"),
    ],
)
def test_damaged_small_norb_header_is_found(position: int, value: int, message: str, tmp_path: Path) -> None:
    write_norb(tmp_path / "smallnorb")
    path = tmp_path / "smallnorb" / f"{smallnorb.TRAIN}-dat.mat"
    content = bytearray(path.read_bytes())
    content[position] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load("smallnorb", tmp_path)


@pytest.mark.parametrize("length", [0, 10, 24, 1000])
def test_truncated_small_norb_is_found(length: int, tmp_path: Path) -> None:
    write_norb(tmp_path / "smallnorb")
    path = tmp_path / "smallnorb" / f"{smallnorb.TRAIN}-dat.mat"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"Small NORB: .*-dat\.mat: expected .* bytes, found"):
        load("smallnorb", tmp_path)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 1, 2, 3, 4, 0, 5], [0, 1, 2, 3, 4, 0, -1]])
def test_small_norb_labels_must_fit(labels: list[int], tmp_path: Path) -> None:
    write_norb(tmp_path / "smallnorb")
    path = tmp_path / "smallnorb" / f"{smallnorb.TEST}-cat.mat"
    path.write_bytes(matrix_bytes(np.array(labels, "<i4")))
    with pytest.raises(DataError, match=r"testing-cat\.mat: expected .* labels|labels from 0 to 4"):
        load("smallnorb", tmp_path)


def write_portrait(folder: Path, size: tuple[int, int] = (197, 256)) -> Path:
    folder.mkdir(parents=True)
    path = folder / "euler.jpg"
    Image.new("RGB", size, (200, 100, 50)).save(path, quality=95)
    return path


def test_portrait_is_grey(tmp_path: Path) -> None:
    write_portrait(tmp_path / "euler")
    loaded = load("euler", tmp_path)
    assert set(loaded.splits) == {"image"}
    x = loaded["image"]["x"].values
    assert (x.dtype, x.shape) == (np.float32, (1, 256, 197))
    np.testing.assert_allclose(x * 255, 0.2989 * 200 + 0.5870 * 100 + 0.1140 * 50, atol=2)


def test_wrong_or_cut_portrait_is_refused(tmp_path: Path) -> None:
    path = write_portrait(tmp_path / "euler", (100, 50))
    with pytest.raises(DataError, match="expected 197x256 pixels, found 100x50"):
        euler.load(tmp_path, euler.Config(), [0])
    path.unlink()
    path.parent.rmdir()
    path = write_portrait(tmp_path / "euler")
    for content in (path.read_bytes()[:400], b"", b"GIF89a"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="expected a complete JPEG image"):
            euler.load(tmp_path, euler.Config(), [0])


@pytest.mark.parametrize(
    ("name", "shape", "counts"),
    [
        ("digits", (8, 8), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]),
        ("wine", (13,), [59, 71, 48]),
        ("breast_cancer", (30,), [212, 357]),
    ],
)
def test_embedded_sets_are_split_by_class(name: str, shape: tuple[int, ...], counts: list[int]) -> None:
    loaded = load(name, test_fraction=0.2)
    assert set(loaded.splits) == {"train", "test"}
    y = {split: loaded[split]["y"].values for split in loaded.splits}
    np.testing.assert_array_equal(np.bincount(np.concatenate(list(y.values()))), counts)
    np.testing.assert_allclose(np.bincount(y["test"]), 0.2 * np.array(counts), atol=1)
    for split in loaded.splits:
        assert loaded[split]["x"].values.dtype == np.float32
        assert loaded[split]["y"].values.dtype == np.int64
        assert loaded[split]["x"].shape == shape
    points = np.concatenate([loaded[split]["x"].values for split in loaded.splits]).reshape(sum(counts), -1)
    again = load(name, test_fraction=0.2)
    np.testing.assert_array_equal(again["test"]["x"].values, loaded["test"]["x"].values)
    assert len(np.unique(points, axis=0)) == len(np.unique(original(name), axis=0))


def original(name: str) -> NDArray[np.float32]:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    return (bunch.data / (16 if name == "digits" else 1)).astype(np.float32)


def test_digits_are_in_the_unit_interval() -> None:
    x = digits.load(Path(), digits.Config(), [0])["train"]["x"].values
    assert (x.min(), x.max()) == (0, 1)


@pytest.mark.parametrize(("size", "count"), [(8, 400), (28, 21), (64, 40)])
def test_patches_are_cut_from_disjoint_parts(size: int, count: int) -> None:
    config = patches.Config(size=size, count=count, test_fraction=0.25)
    loaded = patches.load(Path(), config, [0])
    assert len(loaded["train"]) + len(loaded["test"]) == count
    images = [sample_image.embedded.sample_image(name) for name in ("china", "flower")]
    for split, part in (("train", slice(None, 480)), ("test", slice(480, None))):
        x, y = loaded[split]["x"].values, loaded[split]["y"].values
        assert (x.dtype, y.dtype, x.shape[1:]) == (np.float32, np.int64, (size, size))
        assert abs(np.bincount(y, minlength=2) @ [1, -1]) <= 1
        for patch, image in list(zip(x, y, strict=True))[:5]:
            windows = np.lib.stride_tricks.sliding_window_view(images[image][:, part], (size, size))
            corners = windows[..., 0, 0] == patch[0, 0]
            assert any((window == patch).all() for window in windows[corners])
    again = patches.load(Path(), config, [5])
    np.testing.assert_array_equal(again["train"]["x"].values, loaded["train"]["x"].values)


def test_sample_image_is_a_block_mean() -> None:
    config = sample_image.Config(image="china", shrink=10)
    x = sample_image.load(Path(), config, [0])["image"]["x"].values
    grey = sample_image.embedded.sample_image("china")
    assert (x.dtype, x.shape) == (np.float32, (1, 42, 64))
    assert 0 <= x.min() < x.max() <= 1
    np.testing.assert_allclose(x[0, 3, 7], grey[30:40, 70:80].mean(), rtol=1e-5)


def test_grey_and_block_mean_on_known_values() -> None:
    rgb = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]], np.uint8)
    np.testing.assert_allclose(to_grey(rgb), [0.2989, 0.5870, 0.1140, 0.9999, 0], rtol=1e-6)
    image = np.arange(20).reshape(1, 4, 5)
    np.testing.assert_array_equal(block_mean(image, 2), [[[3, 5], [13, 15]]])
    np.testing.assert_array_equal(block_mean(image, 1), image)


def test_satimage_codes_are_the_six_classes() -> None:
    assert satimage.CODES == ("1", "2", "3", "4", "5", "7")
