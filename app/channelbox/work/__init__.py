"""In: from the sockets to the workers. The queue, the outbox, the worker and its command."""
