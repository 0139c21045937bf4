"""The table of routes, what it refers to, and the OpenAPI document that is made of it."""

from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from streamhub.gateway import operations
from streamhub.gateway.app import ROUTES
from streamhub.gateway.live.routes import live
from streamhub.web import openapi
from streamhub.web.problems import PROBLEMS
from streamhub.web.route import VARIABLES, Route

ALL: Final = (*ROUTES, *operations.ROUTES)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document(ALL)


def test_every_code_of_a_parameter_is_a_problem_of_a_bad_request() -> None:
    codes = {code for route in ALL for parameter in route.parameters for code in parameter.codes}
    assert {PROBLEMS[code].status for code in codes} == {400}


def test_no_route_declares_a_parameter_twice() -> None:
    for route in ROUTES:
        names = [parameter.name for parameter in route.parameters]
        assert len(names) == len(set(names)), route.path


def test_no_route_answers_head() -> None:
    assert "HEAD" not in {route.method for route in ROUTES}


def test_every_route_says_what_it_does_and_what_it_answers() -> None:
    assert not [each.shown_path for each in ALL if not (each.name and each.summary and each.answers)]


def test_every_route_that_is_not_open_says_what_it_asks_of_a_token() -> None:
    assert not [each.shown_path for each in ALL if each.is_open != (each.rule is None)]


def test_every_variable_of_a_path_is_described() -> None:
    assert not {each.name for route in ALL for each in route.variables} - {each.name for each in VARIABLES.values()}


def test_every_parameter_has_an_example_that_its_parser_takes() -> None:
    described = [each for route in ALL for each in route.parameters if each.name != "<path>_<predicate>"]
    for parameter in described:
        assert parameter.example is not None, parameter.name
        parameter.parse(parameter.example)


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    validate(document)


def test_every_code_but_that_of_a_wrong_method_is_told_of_some_route() -> None:
    assert set(PROBLEMS) - {code for route in ALL for code in openapi.codes_of(route)} == {"METHOD_NOT_ALLOWED"}


def test_every_example_is_as_its_schema_says(document: dict[str, Any]) -> None:
    contents = [
        content
        for path in document["paths"].values()
        for name, operation in path.items()
        if name != "parameters"
        for told in (operation.get("requestBody", {}), *operation["responses"].values())
        for content in told.get("content", {}).values()
        if "example" in content
    ]
    assert len(contents) > len(ROUTES) // 2
    for content in contents:
        Draft202012Validator(content["schema"]).validate(content["example"])


def test_a_route_without_a_description_is_in_the_document_all_the_same() -> None:
    paths = openapi.document([Route("GET", "/{thing:[a-z]{2,3}}/bare", live)])["paths"]
    assert list(paths) == ["/{thing}/bare"]
    assert paths["/{thing}/bare"]["get"]["security"] == [{"bearer": []}]
