package view

// Memo returns the result of make for key, made once for each revision of the service:
// the results are dropped when the service changes. Memo counts as a lookup. make may run
// several times at once, and then one result is used; Memo holds no lock while it runs.
func (s *Service) Memo(key any, make func() any) any {
	s.MarkUsed()
	if v, ok := s.memo.Load(key); ok {
		return v
	}
	v, _ := s.memo.LoadOrStore(key, make())
	return v
}
