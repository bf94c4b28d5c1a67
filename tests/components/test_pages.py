"""Pages and tables for the Kubeflow UI."""

import pytest

from components.pages import Table, Text, facts, html, markdown, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"),
        (0.831234, "0.8312"),
        (12345.6, "12,346"),
        (None, "–"),
        (True, "yes"),
        ("a", "a"),
    ],
)
def test_values_are_shown_as_people_read_them(value: object, text: str) -> None:
    assert shown(value) == text


def test_what_comes_from_the_data_cannot_become_markup() -> None:
    page = html(
        "Quality <b>", "a & b", [Table("<i>", ("x",), (("<script>alert(1)</script>",),)), Text("t", "</pre>")]
    )
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("</pre>") == 1


def test_markdown_cells_keep_to_their_row() -> None:
    text = markdown("T", "lead", [Table("rows", ("a", "b"), (("x|y", "two\nlines"), (1000, 0.5)))])
    assert "| x\\|y | two<br>lines |" in text
    assert "| 1,000 | 0.5 |" in text


def test_facts_are_a_table_of_two_columns() -> None:
    assert "| rows | 3 |" in markdown("T", "", [facts("F", {"rows": 3})])
