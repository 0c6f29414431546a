"""One readable loop, and what it stands on: runtime, checkpoints, averages, schedules, companions."""

from elboroom.training.loop import Trainer

__all__ = ["Trainer"]
