"""The embedded server: a real Valkey that several processes of one machine share."""
