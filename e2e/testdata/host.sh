# host.sh ADDRESS... makes a host of new namespaces: it has the addresses and ./resolv.conf.
ip link set lo up
for address; do
	ip address add $address/32 dev lo || exit
done
mount --bind resolv.conf /etc/resolv.conf
echo ready
exec sleep infinity
