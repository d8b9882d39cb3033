"""The milter client: mail filters that speak Sendmail's protocol, version 6, asked as a policy.

There is no RFC. The protocol is what ``libmilter/mfdef.h`` of Sendmail 8.14 and later names and libmilter does, what
Sendmail and Postfix send, and what the filters in use (OpenDKIM, rspamd, clamav-milter) understand.

===============  ======================================================================================================
`packet`         octets to packets: length, command, data
`option`         what the two sides agree on: version, actions, flow, lists of macros
`reply`          what a filter may say: decisions, reply codes, changes
`session`        the pure half: commands in, octets out; octets in, replies out
`macro`          what is told beside the commands: macros, from `Facts`
`client`         one connection, with deadlines and back-pressure
`conversation`   what one SMTP session tells one filter, step by step, from `Facts`
`opinion`        replies of a filter as verdicts
`policy`         `Milter`: the policy, with a conversation for each session
===============  ======================================================================================================
"""
