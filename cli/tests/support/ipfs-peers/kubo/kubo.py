"""The core of Kubo 0.22 as a bitswap peer on loopback. It is a library; the functions that it exports are called here.
    python3 kubo.py '{"library": PATH, "repo": DIR, "tcp": PORT, "files": [PATH]}'
It is told what to do as helia/commands.mjs says."""
import ctypes
import ipaddress
import json
import os
import sys

options = json.loads(sys.argv[1])
repo = options["repo"]
os.makedirs(repo, exist_ok=True)
os.chdir(repo)  # It writes kubo.log where it is.
# What it prints must not come between the answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
kubo = ctypes.CDLL(options["library"])
for function in ("AddFile", "GetNodeID", "GetNodeMultiAddrs", "ListPins"):
    getattr(kubo, function).restype = ctypes.c_char_p


def say(value):
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def call(function, *arguments):
    result = getattr(kubo, function)(*[a.encode() if isinstance(a, str) else a for a in (repo, *arguments)])
    return result.decode() if isinstance(result, bytes) else result


def must(function, *arguments, results=(0, 1)):
    result = call(function, *arguments)
    if result not in results:
        raise RuntimeError(f"{function} returned {result}")


def configure():
    """No bootstrap, DHT, mDNS, relay or hole punching; and it dials this machine only."""
    path = os.path.join(repo, "config")
    with open(path) as file:
        config = json.load(file)
    everything, loopback = ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("127.0.0.0/8")
    elsewhere = [f"/ip4/{n.network_address}/ipcidr/{n.prefixlen}" for n in everything.address_exclude(loopback)]
    config["Bootstrap"] = []
    config["Addresses"].update(Swarm=[f"/ip4/127.0.0.1/tcp/{options['tcp']}"], Announce=[], AppendAnnounce=[], NoAnnounce=[])
    config["Discovery"]["MDNS"]["Enabled"] = False
    config["Routing"] = {"Type": "none"}
    config["AutoNAT"] = {"ServiceMode": "disabled"}
    config["Swarm"].update(AddrFilters=[*elsewhere, "/ip6/::/ipcidr/0"], DisableNatPortMap=True, EnableHolePunching=False)
    config["Swarm"].update(RelayClient={"Enabled": False}, RelayService={"Enabled": False})
    config["Provider"], config["Reprovider"] = {"Strategy": ""}, {"Interval": "0"}
    with open(path, "w") as file:
        json.dump(config, file, indent=1)


def add(path):
    return call("AddFile", path, False)


if not os.path.exists(os.path.join(repo, "config")):
    must("CreateRepo")
configure()
must("RunNode", results=(1,))
added = [add(path) for path in options["files"]]
peer = call("GetNodeID")
addresses = [f"{address}/p2p/{peer}" for address in json.loads(call("GetNodeMultiAddrs"))]
say({"peer": peer, "addresses": addresses, "added": added})
commands = {
    "add": lambda command: add(command["path"]),
    "connect": lambda command: must("ConnectToPeer", command["address"]),
    "fetch": lambda command: must("Download", command["cid"], command["path"]),
    "pin": lambda command: must("PinCID", command["cid"]),
    "pins": lambda command: json.loads(call("ListPins")),
}
for line in sys.stdin:
    command = json.loads(line)
    try:
        say({"done": commands[command["do"]](command)})
    except Exception as error:  # The test decides what a failure means.
        say({"failed": str(error)})
call("CleanupNode")
os._exit(0)
