"""The tutorial's claim, that recurrence and stateful synapses give a network memory, over seeds."""

from experiments._arms import ARMS as ARMS
from experiments._arms import EDITIONS as EDITIONS
from experiments._arms import Arm as Arm
from experiments._arms import build as build
from experiments._report import report as report
from experiments._train import train as train
