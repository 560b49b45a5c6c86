"""Tickets as files that run elsewhere: ONNX and torch.export, each compared with the ticket before it is written."""

from robustprune.tickets.export.forms import FORMS, Form
from robustprune.tickets.export.latency import measure_form_latencies
from robustprune.tickets.export.write import Exported, export_model

__all__ = ["FORMS", "Exported", "Form", "export_model", "measure_form_latencies"]
