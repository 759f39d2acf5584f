// Package bench measures Herald as a whole in the laboratory, with programs built for use: how long until a new Service is announced,
// how long nobody answers when a node is cut off, how many Services are served how quickly. It prints a table of medians; it asserts
// nothing about times, as they are the machine's as well.
package bench
