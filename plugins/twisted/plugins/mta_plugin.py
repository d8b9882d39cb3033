"""Makes `twistd mta` known to Twisted. The options and the service itself are `mta.tap`'s."""

from twisted.application.service import ServiceMaker

mta = ServiceMaker(  # type: ignore[no-untyped-call]  # Twisted has not annotated it
    "mta", "mta.tap", "Mail transfer agent: submission, acceptance, queue, delivery, relay.", "mta"
)
