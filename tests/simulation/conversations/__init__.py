"""Conversations with JetStream, held with a real server and with the model alike: the answers must be the same."""

from . import api, consumers, direct, pins, publishing, pulling, pushing, redelivery
from .talk import CONVERSATIONS, ModelTalk, RealTalk, Talk

__all__ = ["CONVERSATIONS", "ModelTalk", "RealTalk", "Talk"]

_ = (api, consumers, direct, pins, publishing, pulling, pushing, redelivery)  # they fill the table
