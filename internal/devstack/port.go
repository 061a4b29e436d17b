package devstack

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken below the ephemeral range of every system: there, a client's own outgoing connection
// could take the port of a stopped server, or a client could connect to itself.
const (
	portFirst = 20000
	portLimit = 32000
)

// freePorts returns n different loopback ports that were free a moment ago.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	var last error
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := portFirst + rand.IntN(portLimit-portFirst)
		listener, err := net.Listen("tcp4", loopback(port))
		if err != nil {
			last = err
			continue
		}
		defer listener.Close() // held until all are chosen, so that they differ
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("find %d free ports on 127.0.0.1: %w", n, last)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
