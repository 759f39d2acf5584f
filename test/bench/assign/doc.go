// Package assign measures how Herald's controller assigns addresses: many Services at once, a backlog, one more Service beside thousands, a
// restart. The API server and etcd are real, the controller is the program that users run, with the rights that the chart gives it. Figures
// are printed; of them only counts of writes are asserted, as times are the machine's as well.
package assign
