package webtrigger

// ValidAssistantID reports whether a host's id can name an assistant here: 1 to
// 128 characters out of A-Z a-z 0-9 - . _ ~, other than "." and "..". No other
// id ever reaches a [Store] or an [Authorizer].
func ValidAssistantID(id string) bool { return validAssistantID(id) }
