"""Publishing to streams: one message and its acknowledgement, many in flight, batches, counters, schedules."""
