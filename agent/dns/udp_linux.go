package dns

// localSize bounds an answer over UDP on loopback. Its interface sends so much as one packet.
const localSize = 65494
