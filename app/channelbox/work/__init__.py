"""The path of messages from the connections to the workers: outbox, queue, worker and its command."""
