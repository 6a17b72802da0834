"""The balanced networks of the benchmark, at full size, fire as other simulators found."""

import pytest

from neurosim.benchmark import void_reason, work


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coba", "cuba_4k"])
def test_the_rate_is_that_of_other_simulators(name):
    one = work(name)
    assert one.rate is not None
    assert void_reason(one.own("cpu").sample().values, one.checks) == ""
