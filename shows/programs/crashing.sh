#!/bin/sh
# A program that fails at once, as one whose database lacks a table. It writes down that it was started, as worker.sh does. Argument: the directory.
echo "$(date +%s%3N) start $POMELO_SERVER_ID $$" >> "$1/lives"
echo "no such table" >&2
exit 7
