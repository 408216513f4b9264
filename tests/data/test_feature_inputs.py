"""Tables of features beside class folders: the folders are the classes, the table is named as not read."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.tables import TRAIN, Forms, class_folders, write_pictures

FORMS = Forms()
read = FORMS.read


FEATURES = {
    "vectors": {"embedding": [[0.5, 1.0]] * 33},
    "bytes": {"embedding": [b"\0\1"] * 33, "label": ["x"] * 16 + ["y"] * 17},
    "clusters": {"embedding": [[0.5, 1.0]] * 33, "label": [k % 4 for k in range(33)]},
    "numbers": {"x": [k / 9 for k in range(33)], "label": [k % 4 for k in range(33)]},
}


def features_beside_class_folders(folder, columns):
    class_folders(folder)
    files = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*.png"))]
    pq.write_table(pa.table({"path": files, **columns}), folder / "train_features.parquet")
    return folder


for name, columns in FEATURES.items():
    read(f"p37-{name}", notes=["a table beside class folders"])(
        lambda folder, columns=columns: features_beside_class_folders(folder, columns)
    )


@read("p37-flat", notes=["a table beside class folders"], **{"counts": (10, 6, 4), "tested": (2, 1, 1)})
def features_beside_flat_class_folders(folder):
    write_pictures(folder, TRAIN, "{label}/{row}.png")
    table = {"id": list(range(24)), "x": [k / 9 for k in range(24)], "label": [k % 5 for k in range(24)]}
    pq.write_table(pa.table(table), folder / "features.parquet")
    return folder


@pytest.mark.parametrize("id", FORMS.reads)
def test_class_folders_win(id, tmp_path):
    FORMS.check_read(id, tmp_path / "in")
