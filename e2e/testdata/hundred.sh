# Registers 100 instances of the service web at the agent $DISC_AGENT, at the port $PORT.
for n in $(seq 100); do
	printf 'next\nsilent\nfail\noutput=/dev/null\nrequest=PUT\nheader="Content-Type: application/json"\nurl=%s\ndata="{\\"address\\":\\"127.0.1.%s\\",\\"port\\":%s}"\n' \
		$DISC_AGENT/v1/services/web/instances/web-$n $n $PORT
done | curl -K -
