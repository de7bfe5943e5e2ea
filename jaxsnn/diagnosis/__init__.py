"""Problems that keep a network from learning: `doctor` reports, `calibrate` fixes firing rates."""

from jaxsnn.diagnosis._calibrate import CalibratedLayer as CalibratedLayer
from jaxsnn.diagnosis._calibrate import Calibration as Calibration
from jaxsnn.diagnosis._calibrate import calibrate as calibrate
from jaxsnn.diagnosis._doctor import doctor as doctor
from jaxsnn.diagnosis._report import Finding as Finding
from jaxsnn.diagnosis._report import LayerReport as LayerReport
from jaxsnn.diagnosis._report import Report as Report
