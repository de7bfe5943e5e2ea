"""The sides of train_epoch.py, one file each: the same training with another library.

A side is a class `Side(task)` with

- `differs`: how its equations differ from those of the network that it stands for, "" if not;
- `losses(count)`: loss of the first minibatch, and mean loss of the first `count`, from the
  task's start and in the task's order, with the updates in between;
- `epoch()`: trains one epoch and returns the seconds that it took;
- `info`: what else is worth knowing, e.g. the time of compiling.
"""
