"""One exception tree; every message says what was wrong, what was found and what to do."""

from __future__ import annotations


class RobustPruneError(Exception):
    """Base of every error this package raises on purpose; the command line turns it into exit code 1."""


class UnknownNameError(RobustPruneError):
    """A plug-in name (model, data set, criterion, attack …) that nothing is registered under."""


class MissingDependencyError(RobustPruneError):
    """An optional package is needed and not installed; the message holds the command that installs it."""


class DamagedFileError(RobustPruneError):
    """A file that is not, or no longer, what this package wrote; the message says which and why."""


class DataError(RobustPruneError):
    """An image set is missing, damaged, or not in the format its name promises."""


class ModelError(RobustPruneError):
    """A network cannot be built, loaded or run on the given images."""


class PruningError(RobustPruneError):
    """A pruning request that the network, the criterion or the plan cannot meet."""


class RobustPruneWarning(UserWarning):
    """Base of every warning this package gives on purpose; the command line shows it as one line."""


class DataWarning(RobustPruneWarning):
    """An image set of which something was left out, turned or assumed while it was read."""


class PruningWarning(RobustPruneWarning):
    """Scores, or a ticket, that can be had but are less than they seem, or than was asked for."""


class ModelWarning(RobustPruneWarning):
    """A network that can be used, but not in the way that was meant."""


class TrainingWarning(RobustPruneWarning):
    """Training that goes on, but not towards what was wanted."""


class TicketError(RobustPruneError):
    """A ticket file that is missing, damaged, no ticket, or does not fit what is asked of it."""


class TrainingError(RobustPruneError):
    """Training cannot start, cannot be resumed, or left the finite numbers."""


class ProcessError(RobustPruneError):
    """Several processes cannot work together as asked, or one of them no longer answers."""


class AttackError(RobustPruneError):
    """An attack request that makes no sense: values out of range, images outside [0, 1], unknown options."""


class CorruptionError(RobustPruneError):
    """Images that cannot be corrupted as asked: wrong type or shape, no such severity, unknown options."""


class EvaluationError(RobustPruneError):
    """An evaluation cannot be run as asked, or a record cannot be read."""


class DetectorError(RobustPruneError):
    """A detector that cannot be fitted to, or score, the network at hand; the message becomes the reason given."""


class ComparisonError(RobustPruneError):
    """Records that cannot be compared: of other samples or settings, or of one network twice."""


class RecordWarning(RobustPruneWarning):
    """A record of a folder that cannot be read, and is left out of what is said of the folder."""


class SweepError(RobustPruneError):
    """A sweep's file that makes no sense, or a sweep of which something failed."""


class TableError(RobustPruneError):
    """A table of tickets that is missing, damaged or of another form, or cannot be built or asked as wanted."""


class ReportError(RobustPruneError):
    """A report that cannot be made of the records, or cannot be written."""


class ExportError(RobustPruneError):
    """A network that cannot be exported, whose export computes something else, or that cannot be written."""


def in_one_line(error: BaseException, most: int = 300) -> str:
    """Return the first characters of what an error says, without line breaks, to stand within a sentence of ours."""
    return " ".join(str(error).split())[:most]
