from lort_hub.evaluation.comparison_page import ComparedCell, render_comparison
from lort_hub.evaluation.tables import Table
from tests.support.pages import check_page


def test_the_page_says_what_the_p_values_are_of():
    table = Table(("method", "balanced", "p vs ce"), (("lort", "80.1", "0.031"),))
    text = check_page(render_comparison([ComparedCell("digits", [], table, "500 images.")])).text
    assert "against the best single method for all pairs of methods" in text
    assert "of these heads on other test images; not of other draws of the training images" in text
