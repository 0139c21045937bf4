"""The table of routes, and what it refers to."""

from streamhub.gateway.app import ROUTES
from streamhub.web.problems import PROBLEMS


def test_every_code_of_a_parameter_is_a_problem_of_a_bad_request() -> None:
    codes = {code for route in ROUTES for parameter in route.parameters for code in parameter.codes}
    assert {PROBLEMS[code].status for code in codes} == {400}


def test_no_route_declares_a_parameter_twice() -> None:
    for route in ROUTES:
        names = [parameter.name for parameter in route.parameters]
        assert len(names) == len(set(names)), route.path


def test_no_route_answers_head() -> None:
    assert "HEAD" not in {route.method for route in ROUTES}
