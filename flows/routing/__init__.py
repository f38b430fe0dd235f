"""The parts of the routed hop: bytes, neighbours, translation, fragments, errors. Its face is `flows.qrouter`."""
