"""The Autobahn suite's own fuzzing client and echo server (Python 2, as they are) with what its launcher lacks: many
cases at a time, an address to dial that is not the URL's, and the outcomes as one line of JSON.

  autobahn.py FOLDER serve
  autobahn.py FOLDER run ADDRESS:PORT URL CASES-AS-JSON AT-A-TIME
"""

import json
import os
import site
import sys
import types

folder = os.path.abspath(sys.argv[1])
site.addsitedir(folder)
sys.path[:0] = [folder, os.path.join(folder, "autobahntestsuite")]
sys.dont_write_bytecode = True

# TLS is the mesh's work, so the suite does without OpenSSL, and without its launcher, which wants all of WAMP.
tls = types.ModuleType("twisted.internet.ssl")
tls.ClientContextFactory = lambda: None
import twisted.internet

twisted.internet.ssl = sys.modules["twisted.internet.ssl"] = tls
suite = types.ModuleType("autobahntestsuite")
suite.__path__ = [os.path.join(folder, "autobahntestsuite")]
suite.__file__ = os.path.join(folder, "autobahntestsuite/__init__.py")
suite.version = "25.10.1"
sys.modules["autobahntestsuite"] = suite

from twisted.internet import reactor

said = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def say(what):
    said.write(json.dumps(what, sort_keys=True) + "\n")
    said.flush()


# The suite gives up after a second, which on a busy machine says nothing of who is tested.
PATIENT = {"openHandshakeTimeout": 20, "closeHandshakeTimeout": 10}


def serve():
    import testee

    # It wants the port of its URL in Host, which is the Service's.
    factory = testee.TesteeServerFactory("ws://be:80")
    factory.setProtocolOptions(**PATIENT)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1", backlog=200)
    say({"app": port.getHost().port})


def run(address, url, patterns, at_a_time):
    import fuzzing

    host, port = address.split(":")
    fuzzing.connectWS = lambda factory, contextFactory=None: reactor.connectTCP(host, int(port), factory, timeout=5)
    kill_after = fuzzing.FuzzingProtocol.killAfter
    fuzzing.FuzzingProtocol.killAfter = lambda protocol, delay: kill_after(protocol, 10 * delay)
    wanted = {"cases": json.loads(patterns)["cases"], "exclude-cases": json.loads(patterns)["without"]}
    every = fuzzing.CaseSet(
        fuzzing.CaseSetname, fuzzing.CaseBasename, fuzzing.Cases, fuzzing.CaseCategories, fuzzing.CaseSubCategories
    ).parseSpecCases(wanted)
    outcomes, running = {}, []

    class Shard(fuzzing.FuzzingClientFactory):
        noisy = False

        def logCase(self, result):
            close = result["remoteCloseCode"]
            # The octets and times differ from run to run; what came of it must not.
            outcomes[result["id"]] = [result["behavior"], result["behaviorClose"], close, result["wasClean"]]

        def done(self):
            running.remove(self)
            if not running:
                reactor.stop()

        def clientConnectionLost(self, connector, reason):
            if self.nextCase():
                connector.connect()
            else:
                self.done()

        def clientConnectionFailed(self, connector, reason):
            outcomes[self.currentCaseId] = ["NOT CONNECTED", reason.getErrorMessage(), None, False]
            self.clientConnectionLost(connector, reason)

    shards = [every[number::at_a_time] for number in range(at_a_time)]
    options = dict(PATIENT, serverConnectionDropTimeout=10)
    for shard in filter(None, shards):
        running.append(Shard({"cases": shard, "servers": [{"agent": "mesh", "url": url}], "options": options}))
    reactor.run()
    say(outcomes)


if sys.argv[2] == "serve":
    serve()
    reactor.run()
else:
    run(sys.argv[3], sys.argv[4], sys.argv[5], int(sys.argv[6]))
