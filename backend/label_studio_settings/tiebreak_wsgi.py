"""Label Studio's WSGI application, in which people take turns at the queue."""

# mypy: ignore-errors

from core.wsgi import application as label_studio
from tiebreak_turns import Turns

application = Turns(label_studio)
