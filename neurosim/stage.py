"""How a sample is shown, in stages: one for most rules; two passes, or a wake and a sleep stage, for others.

A learning scheme hands the stages to its network (`Network.with_trial`); whoever shows samples makes a `Phase` of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurosim.types import ConfigurationError, choice

STARTS = ("carried", "trial")


@dataclass(frozen=True)
class Stage:
    """One stretch of a trial; all stages show the same sample, encoded once.

    `learn`, `silent` (names of projections) and `noise` as in `Phase`. `teach`: the population `target`, if there is
    one, is driven with the label. `start` "carried": the activity goes on from the stage before; "trial": it is again
    what it was when the trial began. `steps` None: as many as the presentation has. `resting` names projections whose
    rules do not run, while all others do, also those that are attached later.
    """

    name: str
    learn: bool | tuple[str, ...] = True
    teach: bool = True
    silent: tuple[str, ...] = ()
    noise: bool = True
    start: str = "carried"
    steps: int | None = None
    resting: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        choice(self.start, STARTS, f"start of stage {self.name!r}")
        if self.steps is not None and (isinstance(self.steps, bool) or self.steps < 1):
            raise ConfigurationError(f"stage {self.name!r} has steps {self.steps!r}; it must be a whole number >= 1")

    def named(self) -> tuple[str, ...]:
        """The projections that the stage names."""
        return (*self.silent, *self.resting, *(() if isinstance(self.learn, bool) else self.learn))

    def among(self, plastic: tuple[str, ...]) -> Stage:
        """The stage where the projections `plastic` have rules: those that rest are taken out of `learn`."""
        if not self.resting:
            return self
        return replace(self, learn=tuple(name for name in plastic if name not in self.resting))


TRAIN, TEST = Stage("train"), Stage("test", learn=False, teach=False)
