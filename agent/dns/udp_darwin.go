package dns

// localSize bounds an answer over UDP on loopback. macOS sends no larger datagram
// (net.inet.udp.maxdgram).
const localSize = 9216
