"""The embedded server: a Valkey that the processes of one machine share."""
