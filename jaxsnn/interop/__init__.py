"""Networks and weights of other libraries; import what you need, e.g. `interop.spikingjelly`."""
