"""Pure state transitions, one time step each: `(state, x) -> (state, output)`. No Flax here.

Neurons without a reset, and those trained by their mean output, take all steps at once.
"""

from jaxsnn._phases import KEPT as KEPT
from jaxsnn.functional._activation_aware import activation_aware_if_step as activation_aware_if_step
from jaxsnn.functional._adaptive import AdaptiveLIFState as AdaptiveLIFState
from jaxsnn.functional._adaptive import ComplementaryLIFState as ComplementaryLIFState
from jaxsnn.functional._adaptive import IzhikevichState as IzhikevichState
from jaxsnn.functional._adaptive import adaptive_lif_step as adaptive_lif_step
from jaxsnn.functional._adaptive import complementary_lif_step as complementary_lif_step
from jaxsnn.functional._adaptive import izhikevich_step as izhikevich_step
from jaxsnn.functional._adaptive_currents import AdLIFState as AdLIFState
from jaxsnn.functional._adaptive_currents import adlif_step as adlif_step
from jaxsnn.functional._adaptive_currents import se_adlif_step as se_adlif_step
from jaxsnn.functional._analog import liaf_step as liaf_step
from jaxsnn.functional._analog import nonspiking_if_step as nonspiking_if_step
from jaxsnn.functional._analog import nonspiking_lif_step as nonspiking_lif_step
from jaxsnn.functional._delay import delay as delay
from jaxsnn.functional._delay import delay_step as delay_step
from jaxsnn.functional._gated_lif import gated_lif_step as gated_lif_step
from jaxsnn.functional._graded import ilif_step as ilif_step
from jaxsnn.functional._graded import ternary_if_step as ternary_if_step
from jaxsnn.functional._graded import ternary_lif_step as ternary_lif_step
from jaxsnn.functional._integrate_and_fire import if_step as if_step
from jaxsnn.functional._integrate_and_fire import klif_step as klif_step
from jaxsnn.functional._integrate_and_fire import lif_step as lif_step
from jaxsnn.functional._linear_synapses import RisingCurrent as RisingCurrent
from jaxsnn.functional._linear_synapses import (
    double_exponential_factors as double_exponential_factors,
)
from jaxsnn.functional._linear_synapses import (
    double_exponential_synapse_step as double_exponential_synapse_step,
)
from jaxsnn.functional._linear_synapses import exponential_decay as exponential_decay
from jaxsnn.functional._linear_synapses import exponential_synapse_step as exponential_synapse_step
from jaxsnn.functional._neunorm import neunorm_step as neunorm_step
from jaxsnn.functional._nonlinear import eif_step as eif_step
from jaxsnn.functional._nonlinear import qif_step as qif_step
from jaxsnn.functional._online import OTTTState as OTTTState
from jaxsnn.functional._online import ottt_lif_step as ottt_lif_step
from jaxsnn.functional._online import sltt_lif_step as sltt_lif_step
from jaxsnn.functional._online import with_trace_gradient as with_trace_gradient
from jaxsnn.functional._oscillators import BRFState as BRFState
from jaxsnn.functional._oscillators import TCLIFState as TCLIFState
from jaxsnn.functional._oscillators import brf_step as brf_step
from jaxsnn.functional._oscillators import divergence_bound as divergence_bound
from jaxsnn.functional._oscillators import tclif_step as tclif_step
from jaxsnn.functional._parallel import masked_psn_weight as masked_psn_weight
from jaxsnn.functional._parallel import psn as psn
from jaxsnn.functional._parallel import sliding_psn as sliding_psn
from jaxsnn.functional._parallel import sliding_psn_step as sliding_psn_step
from jaxsnn.functional._spike_representation import dsr_if as dsr_if
from jaxsnn.functional._spike_representation import dsr_lif as dsr_lif
from jaxsnn.functional._spiking_rnns import LSTMState as LSTMState
from jaxsnn.functional._spiking_rnns import spiking_gru_step as spiking_gru_step
from jaxsnn.functional._spiking_rnns import spiking_lstm_step as spiking_lstm_step
from jaxsnn.functional._spiking_rnns import spiking_rnn_step as spiking_rnn_step
from jaxsnn.functional._synapse_filter import synapse_filter_step as synapse_filter_step
from jaxsnn.functional._two_variables import CUBALIFState as CUBALIFState
from jaxsnn.functional._two_variables import RAFState as RAFState
from jaxsnn.functional._two_variables import cubalif_step as cubalif_step
from jaxsnn.functional._two_variables import raf_step as raf_step
