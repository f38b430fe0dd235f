"""From wanted flows to OpenFlow bytes: one session per switch, one fleet of sessions."""
