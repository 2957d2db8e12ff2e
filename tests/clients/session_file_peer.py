"""Reads a session's file with the original client, and writes it anew.

    session_file_peer.py FILE FOLDER

Prints the nodes as JSON, and the name of the file that it has written into FOLDER.
"""
import glob, json, os, sys

from replication.protocol import DataTranslationProtocol
from replication.repository import Repository

repository = Repository(rdp=DataTranslationProtocol(), username="reader")
repository.loads(sys.argv[1])
nodes = {str(node.uuid): [node.owner, node.data["n"]] for node in repository.graph.values()}
repository.dumps(os.path.join(sys.argv[2], "anew.db"))
written, = glob.glob(os.path.join(sys.argv[2], "anew_*.db"))
print(json.dumps({"nodes": nodes, "file": written}))
