"""`Milter`: a mail filter of ``[[policy.milter]]`` as a policy, with a connection for each session.

It is asked at connect, helo, mail, rcpt, data and message. Not at headers: the head is told together with the body, at
the end, so that a filter sees what the policies in front of it have changed. Not at auth: who logged in is told with
MAIL. In a rehearsal it has no opinion, for what a filter counts and remembers cannot be held off.

The server tells it of the end of transactions (`Milter.reset`) and sessions (`Milter.closed`).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import defer, interfaces

from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.policy.facts import Facts, Stage
from mta.policy.milter.client import MilterClient
from mta.policy.milter.conversation import Conversation, Identity
from mta.policy.milter.session import Bounds
from mta.policy.verdict import Answer, NoOpinion, Opinion
from mta.settings.milter import MilterAddress, MilterSettings

EndpointFor = Callable[[MilterAddress], interfaces.IStreamClientEndpoint]
"""Makes the endpoint of a filter's address (`mta.policy.milter.client.endpoint`)."""
UNASKED = NoOpinion(Reason("not asked: what a filter counts cannot be held off in a rehearsal"))


class Milter:
    """One filter, asked about all sessions of one reading of the settings.

    `message_maximum`: octets of another body that it may put into a message. `run` reads large bodies off the reactor
    thread.
    """

    stages = frozenset({Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.MESSAGE})

    def __init__(
        self,
        settings: MilterSettings,
        identity: Identity,
        endpoint: EndpointFor,
        clock: interfaces.IReactorTime,
        run: RunInThread,
        message_maximum: int,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._client = MilterClient(endpoint(settings.address), clock, settings.deadlines, Bounds(body=message_maximum))
        self._run = run
        self._sessions: dict[str, Conversation] = {}
        self._asking: dict[str, defer.Deferred[Opinion]] = {}

    @property
    def name(self) -> str:
        """As the settings call it."""
        return self._settings.name

    def ask(self, facts: Facts) -> Answer:
        """Ask the filter, where it sees this mail and has not said all it has to say."""
        if not self._settings.sees(facts.service, facts.address):
            return None
        if facts.rehearsal:
            return UNASKED
        session = facts.session
        conversation = self._sessions.get(session)
        if conversation is None:
            conversation = Conversation(self._client, self._settings, self._identity, self._run)
            self._sessions[session] = conversation
        settled = conversation.settled(facts.stage)
        if settled is not None:
            return settled.opinion
        assert session not in self._asking, "one question of a session at a time"
        answer = defer.Deferred.fromCoroutine(conversation.ask(facts))
        if not answer.called:
            self._asking[session] = answer
            answer.addBoth(self._answered, session, conversation)
        return answer

    def reset(self, session: str) -> None:
        """Have the filter forget the message of a session."""
        conversation = self._sessions.get(session)
        if conversation is not None:
            conversation.reset()

    def closed(self, session: str) -> None:
        """End the conversation about a session; who still waits for an answer gets one that says nothing."""
        conversation = self._sessions.pop(session, None)
        if conversation is not None:
            if session in self._asking:
                self._asking[session].cancel()
            conversation.close()

    def stop(self) -> None:
        """End all conversations."""
        for session in list(self._sessions):
            self.closed(session)

    def _answered(self, opinion: Opinion, session: str, conversation: Conversation) -> Opinion:
        del self._asking[session]
        return opinion if self._sessions.get(session) is conversation else None
