"""The tutorial's claim, that recurrence and stateful synapses give a network memory, over seeds."""

from jaxsnn.study._arms import ARMS as ARMS
from jaxsnn.study._arms import EDITIONS as EDITIONS
from jaxsnn.study._arms import Arm as Arm
from jaxsnn.study._arms import build as build
from jaxsnn.study._report import report as report
from jaxsnn.study._train import train as train
