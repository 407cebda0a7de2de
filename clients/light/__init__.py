"""Light WebRTC peers: real handshakes, counted media; hundreds of them fit on one core."""

from .endpoint import LightFailure, Shared, open_shared
from .publisher import LightPublisher
from .receiver import LightReceiver
from .tally import Tally

__all__ = ["LightFailure", "LightPublisher", "LightReceiver", "Shared", "Tally", "open_shared"]
