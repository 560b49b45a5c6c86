"""Tables of tickets: every one trained and measured, so that any criterion can be judged against all others."""

from robustprune.tables.criterion_rank import CriterionRank, rank_criterion
from robustprune.tables.ticket_comparison import TicketDifference, compare_tickets
from robustprune.tables.ticket_table import TicketTable, load_table

__all__ = ["CriterionRank", "TicketDifference", "TicketTable", "compare_tickets", "load_table", "rank_criterion"]
