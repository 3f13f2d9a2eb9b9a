// resolve NAME [TIMES] resolves a name 20 times, or as often as it says, with the C library, and
// prints how often it got addresses.
// Without a name it waits, as a service in a container does.
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	int resolved = 0, times = argc > 2 ? atoi(argv[2]) : 20;
	while (argc < 2)
		pause();
	for (int n = 0; n < times; n++)
		if (getaddrinfo(argv[1], NULL, &hints, &found) == 0) {
			resolved++;
			freeaddrinfo(found);
		}
	printf("%d of %d\n", resolved, times);
}
