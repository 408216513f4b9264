"""Cards of data sets as strangers write them."""

import pytest

from lort_hub.data.tables.configurations import Configuration, choose_configuration
from lort_hub.errors import DatasetError

MALFORMED = (
    5,
    "photos",
    [3, None, {}, {"default": True}, {"config_name": None}],
    {"config_name": "photos"},
)


def choose(configs, asked=None):
    return choose_configuration({"configs": configs}, [], asked, "org/name")


@pytest.mark.parametrize("configs", MALFORMED, ids=str)
def test_entries_without_a_name_are_none(configs):
    assert choose(configs) == Configuration("default")


def test_an_entry_without_a_name_is_no_default():
    with pytest.raises(DatasetError, match="2 configurations: a, b"):
        choose([{"default": True}, {"config_name": "a"}, {"config_name": "b"}])
    assert choose([{"config_name": "a"}, {"config_name": "b", "default": True}]).name == "b"


def test_names_that_yaml_reads_as_numbers_are_names():
    assert choose([{"config_name": 2018}, {"config_name": 2019}], "2019").name == "2019"


@pytest.mark.parametrize(
    "files", [5, None, [{"split": "train", "path": None}], [{"split": None, "path": "x"}]]
)
def test_files_that_say_nothing_are_told_by_their_names(files):
    assert choose([{"config_name": "a", "data_files": files}]) == Configuration("a")
