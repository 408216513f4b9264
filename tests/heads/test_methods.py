from lort_hub.heads.methods import AUTO, METHODS, methods_table


def test_auto_is_of_methods_that_export_the_simplest_first():
    assert all(METHODS[name].linear for name in AUTO)
    assert list(AUTO) == sorted(AUTO, key=list(METHODS).index)
    assert AUTO[0] == "ce"


def test_the_table_of_methods_is_whole():
    header, _, *lines = methods_table().replace("\\|", "").splitlines()
    assert [line.split("|")[1].strip(" `") for line in lines] == list(METHODS)
    assert {line.count("|") for line in (header, *lines)} == {6}
