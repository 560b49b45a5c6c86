"""Tables in which every ticket is trained, and what they are good for.

Imported from its modules: reading a table takes no torch.
"""
