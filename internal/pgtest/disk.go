package pgtest

import "errors"

// ErrNoDisk reports that this process cannot make a [Disk].
var ErrNoDisk = errors.New("pgtest: a disk of a bounded size needs Linux and the right to mount: run as root, with CAP_SYS_ADMIN in a container")
