"""Imitation learning for bimanual manipulation on ROS 2.

Importing this package (or :mod:`il_robot.types`) loads numpy only: no torch, no ROS, no
physics. The version below is the only one; setup.py and package.xml are checked against it.
"""

__version__ = '0.1.0'
