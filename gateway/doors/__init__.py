"""The doors: processes that face the network. They hold no key but those of the documents they carry."""
