package mcptools

import "time"

// SetLimits sets the size of a response, and the time that a server may leave its
// input unread.
func SetLimits(answer int, patience time.Duration) { maxAnswer, writePatience = answer, patience }
